"""What the device has. The only package that imports psutil."""
