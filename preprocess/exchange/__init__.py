"""Shards to and from what other tools read: folders of images, their list files, WebDataset."""
