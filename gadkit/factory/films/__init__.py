"""Parts that move and sound: mechanics, films with exact flow, and what an impact sounds like."""
