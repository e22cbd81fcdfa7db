"""`python -m calotype`."""

from calotype.cli import enter

if __name__ == "__main__":
    enter()
