"""What every part may use: files, text, threads, progress."""
