"""What each verb of the command line does. Everything is returned; nothing is printed."""
