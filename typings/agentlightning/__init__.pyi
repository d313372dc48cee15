"""What we use of Agent Lightning 0.3, for type checkers: it is too heavy to be installed with our tools."""
