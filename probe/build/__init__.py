"""What the nodes that make noise build."""
