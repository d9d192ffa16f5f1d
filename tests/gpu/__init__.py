"""What a GPU has to prove. Where there is none, the same tests run on the CPU, which tries the tests themselves."""
