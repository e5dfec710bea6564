"""What consumers rely on, what has changed of it, and who is hit. It reads no history and serves nobody."""
