"""A masked-diffusion student: masking, training, parallel decoding and its server."""
