"""What people read: pages in Markdown; ``machines/``, ``papers/`` and ``reference/`` are generated from the code."""
