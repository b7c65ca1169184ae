"""Quality and noise measures, and the classical methods to compare with."""
