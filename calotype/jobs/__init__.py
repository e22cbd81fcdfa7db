"""The queue of jobs: what is stored, who is next, and files of uploads and results. Imports neither torch nor NumPy."""
