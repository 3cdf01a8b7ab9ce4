"""What happens: from a change in MongoDB to a listener, and from a caller to what they may do."""
