"""The files of KYC documents: files without a row, and rows without their file."""
