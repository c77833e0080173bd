"""Plain text and markup that strangers wrote."""
