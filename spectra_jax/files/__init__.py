"""Files: complete or absent when written, checked before the work, strict where others may have written them."""
