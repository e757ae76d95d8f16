"""What a user's program is written against: services, scripts, payloads."""
