"""The requestor's side of the networks that the engine runs on. Foreign errors die here."""
