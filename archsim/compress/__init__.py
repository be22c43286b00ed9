"""How operands are stored: bitmask fibers, packed timesteps; encode, decode, exact size in bits."""
