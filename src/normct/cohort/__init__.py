"""Read, import, validate and split participants."""
