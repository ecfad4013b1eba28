"""How cost and memory grow with examples, features, classes, batch size, threads and epochs."""
def add_arguments(parser): pass
def main(options): return 0
