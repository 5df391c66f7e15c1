"""Stage `page`: what data preparation made of some captions, for a person to look at."""
