"""What measures: speed, memory and quality, against named rivals, on drawn volumes and on scans."""
