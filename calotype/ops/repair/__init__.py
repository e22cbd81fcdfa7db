"""What time and paper did to a print: measured on the pixels of its scan, and taken out. Arrays in, arrays out."""
