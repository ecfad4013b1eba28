"""Train one classifier in several frameworks on identical data and say how well they agree."""
