"""The methods that solve a problem, and what each needs and measures best with."""
