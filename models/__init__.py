"""What there is: every thing's public shape, its input shapes, and the only code that knows its collection."""
