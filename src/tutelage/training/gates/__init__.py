"""What a new student must pass before it sees traffic."""
