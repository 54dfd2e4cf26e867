"""Tables, curves, statistics."""
