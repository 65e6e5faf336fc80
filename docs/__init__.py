"""What users read, and the program that keeps its generated parts true. Not shipped."""
