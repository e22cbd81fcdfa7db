"""The HTTP interface: requests become jobs in the store; nothing is decoded or computed here."""
