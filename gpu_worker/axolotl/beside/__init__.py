"""What axolotl's own interpreter runs for us. It has nothing of Tuneyard's but this folder, and imports none of it."""
