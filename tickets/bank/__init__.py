"""Ticket banks: what they hold, their files, banks made of banks."""
