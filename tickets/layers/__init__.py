"""What the tickets of a layer do, wherever they are put."""
