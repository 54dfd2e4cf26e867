"""What a clinician opens."""
