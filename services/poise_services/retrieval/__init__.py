"""The retrieval tier: documents become passages, passages an index, queries find them."""
