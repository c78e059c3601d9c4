"""What solved cells show, in numbers with errors, and what the paper claims of them."""
