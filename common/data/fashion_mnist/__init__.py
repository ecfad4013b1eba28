"""Fashion-MNIST's files, and the places that have them."""
