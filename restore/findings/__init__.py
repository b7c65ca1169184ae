"""What is wrong with a photograph, as far as it shows: noise, blur, JPEG compression."""
