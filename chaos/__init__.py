"""The chaos report: real work on a real Redis while everything breaks, and a checker of what became of it."""
