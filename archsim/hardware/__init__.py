"""What machines are made of: configuration, the micro-operation, memory and compute units."""
