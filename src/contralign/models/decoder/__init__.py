"""How the language model of any family is read: attention masks, hidden states, the last layer, the head."""
