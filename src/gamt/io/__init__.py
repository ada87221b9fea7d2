"""Reading and writing: the challenge's npz files, images, labels."""
