"""What people read: pages in Markdown, of which ``machines/`` and ``reference/`` are generated from the code."""
