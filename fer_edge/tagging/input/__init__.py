"""Reading images and videos from files, archives and addresses."""
