"""The book's sections as a reader types them: a file for each backend that has them."""
