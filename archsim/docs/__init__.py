"""What people read: pages in Markdown, of which ``machines/``, ``papers/`` and ``reference/`` are generated from the code."""
