"""What both sides of the Ocean protocol need: messages, signatures, statuses, assets. No HTTP."""
