"""What Can Be Learnt With Wide Convolutional Neural Networks? (2208.01003)."""
