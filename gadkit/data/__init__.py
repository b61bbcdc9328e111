"""Images from elsewhere: readers for folders, and the views that training makes of images."""
