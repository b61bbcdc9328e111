"""Finding what is alike: nearest neighbours, a k-centre subset, k-means."""
