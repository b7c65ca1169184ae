"""What people want done, as inverse problems."""
