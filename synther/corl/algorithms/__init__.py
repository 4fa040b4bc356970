"""Each file here is one offline algorithm and a command; a new file is a new algorithm."""
