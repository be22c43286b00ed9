"""What crossbar arrays get right: networks on analog arrays, image by image, and their adaptation."""
